# DeepFashion, Category and Attribute Prediction, fine annotation: 26 attributes.
_base_ = './deepfashion-coarse_bs32.py'

# The share of positives that the classifier starts from: one attribute of each of the six types,
# 6 of 26. An assumption, not a measurement; docs/attributes.md has the command that measures it.
label_frequency = 0.23
data_preprocessor = dict(num_classes=26)
train_dataloader = dict(dataset=dict(annotation='fine'))
val_dataloader = dict(dataset=dict(annotation='fine'))
test_dataloader = dict(dataset=dict(annotation='fine'))
