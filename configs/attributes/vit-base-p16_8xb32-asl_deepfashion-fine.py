_base_ = './vit-base-p16_8xb32-lr_deepfashion-fine.py'

model = dict(head=dict(loss=dict(_delete_=True, type='AsymmetricLoss')))
