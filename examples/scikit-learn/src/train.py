"""scikit-learn: fit, measure, save. It runs alone (`python train.py --trees 10`) and under fleet."""

import argparse

import joblib
from sklearn.datasets import load_breast_cancer
from sklearn.ensemble import RandomForestClassifier
from sklearn.model_selection import train_test_split

import fleet_trainer as ft

job = ft.job()

parser = argparse.ArgumentParser()
parser.add_argument("--trees", type=int, default=50)
options = parser.parse_args()

features, labels = load_breast_cancer(return_X_y=True)
train_x, test_x, train_y, test_y = train_test_split(features, labels, random_state=job.seed)
forest = RandomForestClassifier(options.trees, random_state=job.seed).fit(train_x, train_y)

accuracy = forest.score(test_x, test_y)
print("accuracy", accuracy)
joblib.dump(forest, "forest.joblib")
job.finish(accuracy=accuracy)
