_base_ = './reid_bs64.py'

# `boxes` are detected or labeled.
dataset = dict(type='CUHK03NP', data_root='data/cuhk03-np', boxes='detected')
data_preprocessor = dict(num_classes=767)

train_dataloader = dict(dataset=dataset)
val_dataloader = dict(dataset=dataset)
test_dataloader = val_dataloader
