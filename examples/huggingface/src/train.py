"""Hugging Face's Trainer on a tiny model with random weights: nothing is downloaded. It runs alone and under fleet."""

import torch
from transformers import (
    BertConfig,
    BertForSequenceClassification,
    Trainer,
    TrainerCallback,
    TrainingArguments,
)
from transformers.trainer_utils import get_last_checkpoint, set_seed

import fleet_trainer as ft

job = ft.job()


class Fleet(TrainerCallback):
    def on_step_end(self, args, state, control, **kwargs):
        job.progress(state.global_step, state.max_steps)
        if job.should_stop:
            control.should_save = control.should_training_stop = True

    def on_log(self, args, state, control, logs, **kwargs):
        if "loss" in logs:
            job.log(state.global_step, loss=float(logs["loss"]))


set_seed(job.seed)
words = torch.randint(0, 20, (256, 8))
rows = [{"input_ids": row, "labels": int(row[0] < 10)} for row in words]  # is the first word a low one?
model = BertForSequenceClassification(
    BertConfig(
        vocab_size=20, hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=32
    )
)
checkpoints = str(job.checkpoint_dir or job.output_dir / "checkpoints")
trainer = Trainer(
    model,
    TrainingArguments(
        checkpoints,
        learning_rate=job.hyper.get("lr", 0.01),
        max_steps=job.hyper.get("steps", 40),
        per_device_train_batch_size=32,
        logging_steps=2,
        save_total_limit=1,
        report_to="none",
        disable_tqdm=True,
        use_cpu=job.device == "cpu",
    ),
    train_dataset=rows,
    callbacks=[Fleet()],
)
last = get_last_checkpoint(checkpoints) if job.checkpoint_dir else None
trainer.train(resume_from_checkpoint=last)
if job.should_stop:
    job.stop()

accuracy = float((trainer.predict(rows).predictions.argmax(1) == [row["labels"] for row in rows]).mean())
print("accuracy", accuracy)
trainer.save_model(str(job.output_dir / "model"))
job.finish(accuracy=accuracy)
