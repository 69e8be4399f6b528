// Package keepalive connects to servers whose machine may vanish without a word: its kernel
// is asked for a sign of life, never the program, which may be busy for minutes.
package keepalive

import (
	"net"
	"time"
)

// How a connection that is idle is probed: a peer that is gone is noticed after Idle + Count × Interval.
const (
	Idle     = 10 * time.Second
	Interval = 5 * time.Second
	Count    = 3
)

// Dialer connects with probes. While bytes are on their way, probes rest, and retransmission goes on for
// a quarter of an hour (tcp_retries2): unacknowledged bounds that, where the system can
// (tcp(7), TCP_USER_TIMEOUT). Linux counts it also against a peer that answers and takes nothing because its
// program does not read: it has to be longer than a program that lives may keep us waiting to write.
func Dialer(unacknowledged time.Duration) *net.Dialer {
	return &net.Dialer{
		KeepAliveConfig: net.KeepAliveConfig{Enable: true, Idle: Idle, Interval: Interval, Count: Count},
		Control:         limit(unacknowledged),
	}
}
