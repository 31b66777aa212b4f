_base_ = './resnet18_8xb16-hslr_cifar10.py'

model = dict(backbone=dict(depth=34))
