package main

import (
	"bytes"
	"context"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"
)

// freePort is an address that nobody listens on.
func freePort(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

// TestWorkerWaitsForKafka: a worker is ready when a broker has answered, and not before; it goes on trying, and ends when it shall.
func TestWorkerWaitsForKafka(t *testing.T) {
	kafka, web := freePort(t), freePort(t)
	ctx, cancel := context.WithCancel(t.Context())
	out, in := io.Pipe()
	var errs strings.Builder
	done := make(chan int, 1)
	go func() {
		done <- run(ctx, []string{"worker", "--bootstrap", kafka, "--http", web}, nil, in, &errs)
		_ = in.Close()
	}()
	const hint = "; is --bootstrap right?"
	deadline := time.Now().Add(30 * time.Second)
	for {
		resp, err := http.Get("http://" + web + "/readyz")
		if err == nil {
			text, _ := io.ReadAll(resp.Body)
			_ = resp.Body.Close()
			if resp.StatusCode != http.StatusServiceUnavailable {
				t.Fatalf("%d %s", resp.StatusCode, text)
			}
			if strings.Contains(string(text), "no Kafka at "+kafka+": ") && strings.Contains(string(text), "refused"+hint) {
				break
			}
		}
		if time.Now().After(deadline) {
			t.Fatal("it does not say what is wrong: ", err)
		}
		<-time.After(10 * time.Millisecond)
	}
	startRun(t, "up", "--data", t.TempDir(), "--kafka", kafka, "--http", "127.0.0.1:0")
	line := make([]byte, 200)
	n, err := out.Read(line)
	if err != nil || !strings.HasPrefix(string(line[:n]), "ready kafka="+kafka) {
		t.Errorf("%s %v", line[:n], err)
	}
	if code, text := get(t, "http://"+web+"/readyz"); code != 200 || text != "ok\n" {
		t.Errorf("%d %s", code, text)
	}
	cancel()
	if code := <-done; code != 0 || !strings.Contains(errs.String(), hint) {
		t.Errorf("exit code %d: %s", code, errs.String())
	}

	ctx, cancel = context.WithCancel(t.Context())
	cancel()
	var said, log bytes.Buffer
	if code := run(ctx, []string{"worker", "--bootstrap", freePort(t), "--http", "127.0.0.1:0"}, nil, &said, &log); code != 0 || said.Len() > 0 {
		t.Errorf("exit code %d: %s%s", code, said.String(), log.String())
	}
}
