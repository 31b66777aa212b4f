_base_ = './resnet50_8xb32-hslr_in1k.py'

model = dict(backbone=dict(depth=152))
