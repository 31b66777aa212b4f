_base_ = [
    '../_base_/models/resnet50_attributes.py',
    '../_base_/datasets/deepfashion-fine_bs32.py',
    '../_base_/schedules/attributes_bs256.py',
    'mmpretrain::_base_/default_runtime.py',
]
custom_imports = dict(imports=['frlr_mm'])

model = dict(head=dict(num_classes=26))

# The bias starts at the prior, the label frequencies of the training data.
custom_hooks = [dict(type='PriorBiasHook')]
