#!/usr/bin/env bash
# `make test`: every stage in turn, each timed; a stage that fails does not hide what the others say.
set -uo pipefail
cd "$(dirname "$0")/../.."
# An interrupt ends all of it, not just the stage it hit.
trap "exit 130" INT TERM
began=$SECONDS
stages=(tools check unit sim mutants contract scenarios)
results=()
failed=0
for stage in "${stages[@]}"; do
    printf '== %s: make %s\n' "$(date -u +%H:%M:%S)" "$stage"
    from=$SECONDS
    if make --no-print-directory "$stage"; then
        results+=("ok     $((SECONDS - from)) s  $stage")
    else
        results+=("FAILED $((SECONDS - from)) s  $stage")
        failed=$((failed + 1))
        # Without the tools nothing below can run.
        [[ $stage == tools ]] && break
    fi
done
printf '== stages, %s s in all\n' "$((SECONDS - began))"
printf '   %s\n' "${results[@]}"
printf '%s passed, %s failed\n' "$((${#results[@]} - failed))" "$failed"
((failed == 0))
