# For uring-fio.sh: lines of name, IO/s, seconds in the kernel; four names a round. Variables: what, seconds.
{
    round = int((NR - 1) / 4)
    iops[$1, round] = $2
    kernel[$1, round] = $3 / ($2 * seconds) * 1e6
    printf "%-16s %-14s %9.0f IO/s, %6.2f us in the kernel per IO\n", what, $1, $2, kernel[$1, round]
}
END {
    rounds = round + 1
    report("registered", "plain", "fio-registered")
    report("plain", "", "fio-plain")
    report("fio-registered", "fio-plain", "")
    report("fio-plain", "", "")
}
# Medians of one name, and of its ratios to two others in the same round.
function report(name, without, fio,   at) {
    for (at = 0; at < rounds; at++) one[at] = iops[name, at]
    printf "MEDIAN %-16s %-14s %9.0f IO/s", what, name, median()
    for (at = 0; at < rounds; at++) one[at] = kernel[name, at]
    printf ", %6.2f us in the kernel per IO", median()
    if (without != "") ratio(name, without)
    if (fio != "") ratio(name, fio)
    print ""
}
function ratio(name, other,   at) {
    for (at = 0; at < rounds; at++) one[at] = iops[name, at] / iops[other, at]
    printf ", to %s %.3f", other, median()
}
# Of `one`, which it sorts.
function median(   i, j, t) {
    for (i = 1; i < rounds; i++)
        for (j = i; j > 0 && one[j] < one[j - 1]; j--) { t = one[j]; one[j] = one[j - 1]; one[j - 1] = t }
    return (one[int((rounds - 1) / 2)] + one[int(rounds / 2)]) / 2
}
