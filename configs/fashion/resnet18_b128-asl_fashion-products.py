_base_ = './resnet18_b128-lr_fashion-products.py'

model = dict(head=dict(loss=dict(_delete_=True, type='AsymmetricLoss')))
