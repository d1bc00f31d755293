#!/bin/sh
# For another machine: speeds are predicted from its memory bandwidth, and labelled so.
set -e
sintra profiles
sintra inspect sample
sintra plan --profile raspberry-pi-5-8gb --target-tps 2000
