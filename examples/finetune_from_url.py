"""LXMERT fine-tuned on a store behind a URL, in 30 lines. Beforehand, on this or another machine:

featx scenes scenes --train 500 --val 150 --seed 2026 --languages en
for s in train val; do featx extract scenes/$s $s.featx --weights tiny --key-rule stem; done
featx serve train.featx val.featx &
python -m examples.finetune_from_url http://127.0.0.1:8000 scenes/vqa finetuned
"""

import sys
from pathlib import Path

import torch
from torch.utils.data import DataLoader

import featx
from featx.data.read import read_questions
from featx.lxmert.folder import Model, save_model
from featx.metrics.vqa import score_vqa


def questions(folder, split):
    files = {kind: f"{folder}/{kind}_{split}_en.json" for kind in ("questions", "annotations")}
    return read_questions({**files, "image_name": "scene_{image_id:012d}"})


def main(url, folder, out, epochs=2, batch=128):
    ask = featx.Predictor(store=f"{url}/val")  # the default weights; features of another detector are refused
    train, val = questions(folder, "train"), questions(folder, "val")
    data = featx.FeatureDataset(f"{url}/train", [question.picture for question in train])
    optimiser = torch.optim.AdamW(ask.model.network.parameters(), lr=5e-5)
    for epoch in range(epochs + 1):
        order = [part.tolist() for part in torch.randperm(len(train)).split(batch)] if epoch else []
        for part, records in zip(order, DataLoader(data, batch_sampler=order, collate_fn=data.collate), strict=True):
            logits = ask.model.logits(records, [train[i].text for i in part])
            targets = torch.from_numpy(ask.answers.targets([train[i].scores for i in part]))
            torch.nn.functional.cross_entropy(logits, targets).backward()
            optimiser.step()
            optimiser.zero_grad()
        answers = {question.id: best[0]["answer"] for question, best in ask.split(val)}
        print(f"epoch {epoch}: {score_vqa(val, answers)['overall']} % of val", flush=True)
    Path(out).mkdir(parents=True, exist_ok=True)
    save_model(Path(out), Model(ask.model.network, ask.model.tokens, ask.answers, ask.model.about))


if __name__ == "__main__":
    main(*sys.argv[1:4])
