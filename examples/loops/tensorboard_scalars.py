"""A loop of one's own, seen in TensorBoard: tensorboard --logdir runs"""

import torch
from sklearn.datasets import load_digits
from torch import nn

from trace_core import Tracer
from trace_core.integrations.tensorboard import TensorBoardWriter

inputs, targets = load_digits(return_X_y=True)
inputs, targets = torch.tensor(inputs / 16).float(), torch.tensor(targets)
model = nn.Sequential(nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 10))
optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)

with TensorBoardWriter(Tracer(model, optimizer), "runs/tensorboard") as writer:
    for step in range(100):
        rows = torch.randint(len(inputs), (64,))
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(inputs[rows]), targets[rows]).backward()
        optimizer.step()
        if step % 20 == 19:
            writer.write()
