#!/bin/sh
# No Python at all: fits y = a x by gradient descent. It runs alone (`FLEET_DATA=../data ./train.sh 0.1`) and under fleet.
set -eu
points="$FLEET_DATA/points.csv"
output=${FLEET_OUTPUT_DIR:-.} checkpoint=${FLEET_CHECKPOINT_DIR:-.}/step events=${FLEET_EVENTS:-/dev/null}
rate=$1 steps=20 stopped=

trap 'stopped=yes' TERM
step=0 a=0
if [ -e "$checkpoint" ]; then read -r step a <"$checkpoint"; fi

while [ "$step" -lt "$steps" ]; do
    step=$((step + 1))
    read -r a loss <<END
$(awk -F, -v a="$a" -v rate="$rate" '{ e = a * $1 - $2; s += e * $1; l += e * e }
    END { printf "%.6f %.6f\n", a - rate * s / NR, l / NR }' "$points")
END
    echo "step $step: a = $a, loss $loss"
    echo "{\"type\": \"progress\", \"step\": $step, \"total\": $steps}" >>"$events"
    echo "{\"type\": \"metric\", \"name\": \"loss\", \"step\": $step, \"value\": $loss}" >>"$events"
    if [ "$stopped" ]; then
        echo "$step $a" >"$checkpoint"
        exit 75
    fi
done

echo "a = $a" >"$output/model.txt"
echo "{\"metrics\": {\"loss\": {\"value\": $loss}}}" >"$output/metrics.json"
