"""Lightning, with a callback of a few lines. It runs alone and under fleet."""

import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import ModelCheckpoint
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

import fleet_trainer as ft

job = ft.job()


class Fleet(pl.Callback):
    def on_train_batch_end(self, trainer, module, outputs, batch, batch_index):
        job.progress(trainer.global_step, trainer.estimated_stepping_batches)
        job.log(trainer.global_step, loss=outputs["loss"].item())
        if job.should_stop:
            trainer.save_checkpoint(checkpoints / "last.ckpt")
            job.stop()


class Ring(pl.LightningModule):
    def __init__(self):
        super().__init__()
        self.net = nn.Sequential(nn.Linear(2, 32), nn.ReLU(), nn.Linear(32, 1))

    def training_step(self, batch):
        points, labels = batch
        return nn.functional.binary_cross_entropy_with_logits(self.net(points).squeeze(1), labels)

    def configure_optimizers(self):
        return torch.optim.Adam(self.parameters(), lr=job.hyper.get("lr", 0.05))


pl.seed_everything(job.seed)
points = torch.rand(512, 2) * 2 - 1
labels = (points.norm(dim=1) < 0.8).float()
model = Ring()
checkpoints = job.checkpoint_dir or job.output_dir / "checkpoints"
last = checkpoints / "last.ckpt"
trainer = pl.Trainer(
    max_epochs=job.hyper.get("epochs", 5),
    callbacks=[Fleet(), ModelCheckpoint(checkpoints, save_last="link")],
    accelerator=job.device.partition(":")[0],
    devices=1,
    logger=False,
    enable_progress_bar=False,
)
trainer.fit(model, DataLoader(TensorDataset(points, labels), 64), ckpt_path=last if last.exists() else None)

accuracy = ((model.net(points).squeeze(1) > 0) == labels.bool()).float().mean().item()
print("accuracy", accuracy)
torch.save(model.state_dict(), job.output_dir / "model.pt")
job.finish(accuracy=accuracy)
