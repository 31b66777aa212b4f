_base_ = './reid_bs64.py'

dataset = dict(type='DukeMTMCreID', data_root='data/dukemtmc-reid')
data_preprocessor = dict(num_classes=702)

train_dataloader = dict(dataset=dataset)
val_dataloader = dict(dataset=dataset)
test_dataloader = val_dataloader
