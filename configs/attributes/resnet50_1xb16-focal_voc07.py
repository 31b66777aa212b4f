_base_ = './resnet50_1xb16-lr_voc07.py'

model = dict(head=dict(loss=dict(_delete_=True, type='FocalLoss')))
