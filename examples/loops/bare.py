"""A loop of one's own: one line before it, one after."""

import torch
from sklearn.datasets import load_digits
from torch import nn

from trace_core import Tracer

inputs, targets = load_digits(return_X_y=True)
inputs, targets = torch.tensor(inputs / 16).float(), torch.tensor(targets)
model = nn.Sequential(nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 10))
optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)

tracer = Tracer(model, optimizer)
for step in range(100):
    rows = torch.randint(len(inputs), (64,))
    loss = nn.functional.cross_entropy(model(inputs[rows]), targets[rows])
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    if step % 20 == 19:
        print(f"step {step}: loss {loss:.3f}, score {tracer.latest.score():.3f}")
tracer.trace().save("runs/bare/trace.npz")
