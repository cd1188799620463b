"""A training loop of one's own. It runs alone (`python train.py --epochs 5`) and under fleet."""

import argparse

import torch
from torch import nn

import fleet_trainer as ft

job = ft.job()

parser = argparse.ArgumentParser()
parser.add_argument("--lr", type=float, default=0.05)
parser.add_argument("--epochs", type=int, default=20)
options = parser.parse_args()

torch.manual_seed(job.seed)
points = torch.rand(512, 2) * 2 - 1
labels = (points.norm(dim=1) < 0.8).float()
model = nn.Sequential(nn.Linear(2, 32), nn.ReLU(), nn.Linear(32, 1))
optimizer = torch.optim.Adam(model.parameters(), lr=options.lr)

first = 1
if state := job.load():  # what an earlier attempt saved, on whichever machine
    model.load_state_dict(state["model"])
    optimizer.load_state_dict(state["optimizer"])
    first = state["epoch"] + 1
    print("goes on at epoch", first)

for epoch in range(first, options.epochs + 1):
    optimizer.zero_grad()
    loss = nn.functional.binary_cross_entropy_with_logits(model(points).squeeze(1), labels)
    loss.backward()
    optimizer.step()

    job.progress(epoch, options.epochs)
    job.log(epoch, loss=loss.item())
    if job.should_stop or job.checkpoint_due:
        state = {"model": model.state_dict(), "optimizer": optimizer.state_dict(), "epoch": epoch}
        job.save(state, epoch)
    if job.should_stop:
        job.stop()

accuracy = ((model(points).squeeze(1) > 0) == labels.bool()).float().mean().item()
print("accuracy", accuracy)
torch.save(model.state_dict(), job.output_dir / "model.pt")
job.finish(accuracy=accuracy)
