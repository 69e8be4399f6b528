package testenv

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"sync"
	"testing"
)

// given are the ports that this process has handed out.
var given sync.Map

// freePort finds a loopback port that is free for TCP and UDP, below those that the system gives to outgoing
// connections: one of them could take the port of a server before it starts, or while it is down.
func freePort() (int, error) {
	for range 1000 {
		port := 10_000 + rand.IntN(22_000)
		if _, taken := given.LoadOrStore(port, true); taken || !portFree(port) {
			continue
		}
		u, err := net.ListenPacket("udp", fmt.Sprintf("127.0.0.1:%d", port))
		if err != nil {
			continue
		}
		_ = u.Close() // it was only a probe
		return port, nil
	}
	return 0, errors.New("no free port from 10000 to 32000")
}

// FreePorts picks n such ports, for servers on 127.0.0.1. Another process may take one before it is used; whoever binds it fails and its log says so.
func FreePorts(n int) ([]int, error) {
	ports := make([]int, n)
	for i := range ports {
		var err error
		if ports[i], err = freePort(); err != nil {
			return nil, err
		}
	}
	return ports, nil
}

func portFree(port int) bool {
	l, err := net.Listen("tcp4", fmt.Sprintf("127.0.0.1:%d", port))
	if err != nil {
		return false
	}
	_ = l.Close() // it was only a probe
	return true
}

// FreeAddr gives a loopback address, host:port, that nothing uses now: for a server that must come back at the same one.
func FreeAddr(tb testing.TB) string {
	tb.Helper()
	port, err := freePort()
	if err != nil {
		tb.Fatal(err)
	}
	return fmt.Sprintf("127.0.0.1:%d", port)
}
