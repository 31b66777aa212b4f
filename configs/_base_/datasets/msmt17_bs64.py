_base_ = './reid_bs64.py'

# `version` is V2, with masked faces, or V1.
dataset = dict(type='MSMT17', data_root='data/msmt17', version='V2')
data_preprocessor = dict(num_classes=1041)

train_dataloader = dict(dataset=dataset)
val_dataloader = dict(dataset=dataset)
test_dataloader = val_dataloader
