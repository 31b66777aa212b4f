_base_ = './vit-base-p16_64xb64-sslr_in1k.py'

model = dict(backbone=dict(arch='l'), head=dict(in_channels=1024, topk=(1, 5)))
