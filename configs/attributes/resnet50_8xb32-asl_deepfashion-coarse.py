_base_ = './resnet50_8xb32-lr_deepfashion-coarse.py'

model = dict(head=dict(loss=dict(_delete_=True, type='AsymmetricLoss')))
