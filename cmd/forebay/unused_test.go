package main

import (
	"context"
	"io"
	"net"
	"strings"
	"testing"
	"time"
)

// TestStopWithAnUnusedConnection: a connection on which nothing was asked does not hold up the end, nor make it a failure.
func TestStopWithAnUnusedConnection(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	out, in := io.Pipe()
	var errs strings.Builder
	done := make(chan int, 1)
	go func() {
		done <- run(ctx, []string{"up", "--data", t.TempDir(), "--kafka", "127.0.0.1:0", "--http", "127.0.0.1:0"}, nil, in, &errs)
		_ = in.Close()
	}()
	line := make([]byte, 200)
	n, err := out.Read(line)
	if err != nil {
		t.Fatal(err, <-done, errs.String())
	}
	web := strings.TrimSpace(string(line[strings.Index(string(line[:n]), "http=")+5 : n]))
	var conns []net.Conn
	for range 3 {
		c, err := net.Dial("tcp", web)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		conns = append(conns, c)
	}
	if code, _ := get(t, "http://"+web+"/livez"); code != 200 { // and by now the server has taken those in
		t.Fatal(code)
	}
	began := time.Now()
	cancel()
	if code := <-done; code != 0 {
		t.Errorf("ended with %d: %s", code, errs.String())
	}
	if took := time.Since(began); took > 4*time.Second {
		t.Errorf("the end took %v", took)
	}
	for _, c := range conns {
		if _, err := c.Read(make([]byte, 1)); err == nil {
			t.Error("an unused connection is open")
		}
	}
}
