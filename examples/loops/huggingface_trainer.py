"""Hugging Face's Trainer: traceability in its logs, its checkpoints and its output folder."""

import torch
from sklearn.datasets import load_digits
from transformers import Trainer, TrainingArguments, ViTConfig, ViTForImageClassification

from trace_core.integrations.huggingface import TraceabilityCallback

digits = load_digits()
images = torch.tensor(digits.images / 16).float()[:, None]
data = [{"pixel_values": i, "labels": t} for i, t in zip(images, digits.target, strict=True)]
small = {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}
config = ViTConfig(image_size=8, patch_size=4, num_channels=1, num_labels=10, **small)
settings = TrainingArguments("runs/huggingface", max_steps=60, logging_steps=20)

trainer = Trainer(ViTForImageClassification(config), settings, train_dataset=data)
traceability = TraceabilityCallback(trainer)
trainer.train()
print(f"traceability {traceability.trace.score():.3f}")
