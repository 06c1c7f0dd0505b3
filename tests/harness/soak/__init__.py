"""`make soak MINUTES=30`: good and bad traffic for a long time, and what it does to Envoy.

    traffic     what clients send, good and bad
    process     what can be seen of a process and of the VMs in it
    report      the CSV, the picture, and the rule by which memory grows or doesn't

Each row of target/soak/soak.csv is an interval; target/soak/soak.png draws them. The exit
status is 1 if after the first tenth of the time memory or open files grow (the rule is in
`report`), if a VM was replaced, if the log holds a panic or a critical line, or if good
batches were not accepted.
"""
