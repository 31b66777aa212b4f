# Person re-ID: data/my_persons/{bounding_box_train,query,bounding_box_test}/0007_cam2_*.jpg.
_base_ = 'frlr_mm::reid/resnet50_b64-hslr_market1501.py'
custom_imports = dict(imports=['frlr_mm'])

num_persons = 25  # in bounding_box_train
ratio = 0.3  # where the annealing ends: seven of 25 persons

model = dict(head=dict(num_classes=num_persons, loss=dict(ratio=ratio)))
data_preprocessor = dict(num_classes=num_persons)

# The name of a file without its suffix: the groups are the ids of the person and of the camera.
dataset = dict(data_root='data/my_persons', pattern=r'(?P<pid>\d+)_cam(?P<camera>\d+)_.*')
train_dataloader = dict(dataset=dataset)
val_dataloader = dict(dataset=dataset)
test_dataloader = val_dataloader

custom_hooks = [
    dict(type='PriorBiasHook'),
    dict(type='FocusAnnealingHook', param='ratio', start_value=1.0, end_value=ratio, end=0.8),
]
