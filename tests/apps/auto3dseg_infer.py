"""What swinunetr's and dints' `scripts/infer.py` have in common: the class, its methods and how they call MONAI's function."""

import torch
from monai.inferers import sliding_window_inference


class InferClass:
    def __init__(self, config_file, model, images, **settings):
        self.model, self.images = model, images
        vars(self).update(settings)

    def _answer(self, scan):
        with torch.autocast("cpu", enabled=self.amp):
            return sliding_window_inference(
                inputs=scan,
                roi_size=self.patch_size_valid,
                sw_batch_size=self.num_sw_batch_size,
                predictor=self.model,
                mode="gaussian",
                overlap=self.overlap_ratio_final,  # dints calls it overlap_ratio
                sw_device=self.device,
                device=self.device,
            )

    @torch.no_grad()
    def infer(self, number):
        self.model.eval()
        return self._answer(self.images[number])

    @torch.no_grad()
    def batch_infer(self):
        self.model.eval()
        return [self._answer(scan) for scan in self.images]
