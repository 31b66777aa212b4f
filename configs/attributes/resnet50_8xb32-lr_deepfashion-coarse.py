_base_ = [
    '../_base_/models/resnet50_attributes.py',
    '../_base_/datasets/deepfashion-coarse_bs32.py',
    '../_base_/schedules/attributes_bs256.py',
    'mmpretrain::_base_/default_runtime.py',
]
custom_imports = dict(imports=['frlr_mm'])

# The bias starts at the prior.
model = dict(head=dict(num_classes=1000, init_cfg=dict(bias_prob={{_base_.label_frequency}})))

# The stock losses know no unknown labels.
train_dataloader = dict(dataset=dict(unknown='negative'))
