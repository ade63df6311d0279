"""Lightning: traceability in its logs, its checkpoints and its log folder."""

import torch
from lightning.pytorch import LightningModule, Trainer
from sklearn.datasets import load_digits
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from trace_core.integrations.lightning import TraceabilityCallback


class Digits(LightningModule):
    """A small network."""

    def __init__(self):
        super().__init__()
        self.net = nn.Sequential(nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 10))

    def training_step(self, batch):
        """Return the loss of a batch."""
        return nn.functional.cross_entropy(self.net(batch[0]), batch[1])

    def configure_optimizers(self):
        """Return the optimiser."""
        return torch.optim.Adam(self.parameters(), lr=1e-2)


inputs, targets = load_digits(return_X_y=True)
data = TensorDataset(torch.tensor(inputs / 16).float(), torch.tensor(targets))
traceability = TraceabilityCallback()
trainer = Trainer(max_epochs=3, callbacks=[traceability], log_every_n_steps=20)
trainer.fit(Digits(), DataLoader(data, batch_size=64, shuffle=True))
print(f"traceability {traceability.trace.score():.3f}")
