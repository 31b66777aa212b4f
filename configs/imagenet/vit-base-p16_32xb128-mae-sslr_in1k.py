_base_ = '../vit-base-p16_frlr.py'
