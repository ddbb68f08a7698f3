"""What 3D Slicer's module for MONAI Label does with volumes and masks, on Slicer's own libraries (pip: `slicer-core`)."""

import numpy as np
import slicer
import vtk
from slicer import util


class SlicerScene:
    """A scene of 3D Slicer without its windows."""

    def __init__(self):
        self.scene = slicer.vtkMRMLScene()

    def read(self, file, kind):
        """A node of a file, as Slicer reads volumes."""
        node, storage = kind(), slicer.vtkMRMLVolumeArchetypeStorageNode()
        self.scene.AddNode(node)
        storage.SetFileName(str(file))
        storage.SetSingleFile(True)
        assert storage.ReadData(node) == 1, file
        return node

    def volume(self, file):
        """An image, as *Next Sample* loads it."""
        return self.read(file, slicer.vtkMRMLScalarVolumeNode)

    def label_map(self, file):
        """A mask."""
        return self.read(file, slicer.vtkMRMLLabelMapVolumeNode)

    def save(self, node, file):
        """Write a volume, as *Upload Volume* does before it sends the file."""
        storage = slicer.vtkMRMLVolumeArchetypeStorageNode()
        storage.SetFileName(str(file))
        assert storage.WriteData(node) == 1, file

    def segmentation(self, label_map):
        """What is shown after *Run*: a segment for each label."""
        node = slicer.vtkMRMLSegmentationNode()
        self.scene.AddNode(node)
        assert slicer.vtkSlicerSegmentationsModuleLogic.ImportLabelmapToSegmentationNode(label_map, node)
        node.CreateDefaultDisplayNodes()
        return node

    def on_grid_of(self, volume, segmentation):
        """A segmentation as a mask on an image's grid, as *Submit Label* exports it."""
        node = slicer.vtkMRMLLabelMapVolumeNode()
        self.scene.AddNode(node)
        export = slicer.vtkSlicerSegmentationsModuleLogic.ExportVisibleSegmentsToLabelmapNode
        assert export(segmentation, node, volume)
        return node


def voxels(node):
    """The values of a volume, the last axis first."""
    return np.array(util.arrayFromVolume(node))


def grid(node):
    """Where the voxels lie, in mm."""
    matrix = vtk.vtkMatrix4x4()
    node.GetIJKToRASMatrix(matrix)
    return np.array([[matrix.GetElement(row, column) for column in range(4)] for row in range(4)])
