# On two processes, each with half of the classes:
# bash tools/dist_train.sh configs/glyphs/resnet18_2xb64-hslr-sharded_glyphs.py 2
_base_ = './resnet18_b128-hslr_glyphs.py'

model = dict(head=dict(type='ShardedLinearClsHead'))
# Known to mmpretrain's own command lines as well.
runner_type = 'ShardedRunner'

train_dataloader = dict(batch_size=64)

val_evaluator = dict(type='TopKAccuracy')
test_evaluator = val_evaluator
