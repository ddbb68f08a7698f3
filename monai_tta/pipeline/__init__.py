"""A bundle and files to masks on disk."""

import logging
import warnings

# Where pydicom is installed and NVIDIA's decoder is not, MONAI says so of each reader that it makes. Nothing here needs it.
logging.getLogger("monai.data.nvimgcodec_pydicom_plugin").setLevel(logging.ERROR)
warnings.filterwarnings("ignore", message="NvImgCodecPydicomReader: nvImageCodec decoder plugin did not register")
