#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# The work of one step, and the witness of it: writes begin and end, and whether another one works at the same time.
# Usage: witness.sh OPERATION UID ATTEMPT FAILURES STEP      runs on the host, whose /mnt outlives it.
# The Operation's name says what to do: KIND-NUMBER-MILLISECONDS[-FAILURES BEFORE IT SUCCEEDS].
operation=$1 uid=$2 attempt=$3 failures=$4 step=$5
note() {
  read -r now _ </proc/uptime
  echo "$1 $uid $attempt $step $$ $now" >>/mnt/witness
}

exec 9>>/mnt/busy
flock -n 9 || note overlap
[ -e /mnt/impostor ] && note impostor
note begin
rest=${operation#*-}
rest=${rest#*-}
milliseconds=${rest%%-*}
wanted=${rest#"$milliseconds"}
wanted=${wanted#-}
if [ "$step" = wipe ]; then
  [ -e /mnt/cut ] && mv /mnt/cut /mnt/cut-done && ip link set eth0 down
  [ -e /mnt/crash ] && mv /mnt/crash /mnt/crash-done && kill -9 -1
elif [ "$milliseconds" -gt 300 ]; then
  milliseconds=50 # only the wipe is ever slow
fi
sleep "$((milliseconds / 1000)).$(printf %03d $((milliseconds % 1000)))"
if [ "$step" = "wipe" ] && [ "$failures" -lt "${wanted:-0}" ]; then
  note refuse
  echo "the disk says no" >&2
  exit 1
fi
note end
