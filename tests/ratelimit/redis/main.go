// A Redis server on loopback for the tests: in memory, with a clock that runs.
package main

import (
	"fmt"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/alicebob/miniredis/v2"
)

func main() {
	server := miniredis.NewMiniRedis()
	if err := server.StartAddr(os.Args[1]); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	ended := make(chan os.Signal, 1)
	signal.Notify(ended, syscall.SIGTERM, syscall.SIGINT)
	// Its keys expire only when time is told to pass.
	tick := time.NewTicker(50 * time.Millisecond)
	last := time.Now()
	for {
		select {
		case now := <-tick.C:
			server.FastForward(now.Sub(last))
			last = now
		case <-ended:
			server.Close()
			return
		}
	}
}
