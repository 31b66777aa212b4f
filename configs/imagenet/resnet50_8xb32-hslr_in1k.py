_base_ = '../resnet50_frlr.py'
