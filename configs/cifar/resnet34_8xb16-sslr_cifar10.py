_base_ = './resnet18_8xb16-sslr_cifar10.py'

model = dict(backbone=dict(depth=34))
