_base_ = './reid_bs64.py'

dataset = dict(type='Market1501', data_root='data/market1501')
data_preprocessor = dict(num_classes=751)

train_dataloader = dict(dataset=dataset)
val_dataloader = dict(dataset=dataset)
test_dataloader = val_dataloader
