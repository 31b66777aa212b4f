# DeepFashion, Category and Attribute Prediction, fine annotation: 26 attributes.
_base_ = './deepfashion-coarse_bs32.py'

data_preprocessor = dict(num_classes=26)
train_dataloader = dict(dataset=dict(annotation='fine'))
val_dataloader = dict(dataset=dict(annotation='fine'))
test_dataloader = dict(dataset=dict(annotation='fine'))
