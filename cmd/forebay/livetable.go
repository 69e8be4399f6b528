package main

import (
	"context"
	"fmt"
	"os"
	"strings"
	"time"

	"golang.org/x/term"

	"github.com/forebayhub/forebay/runtime/api"
	"github.com/forebayhub/forebay/runtime/worker"
)

// showTable keeps a table of the connectors on a terminal's stderr: name, state,
// records per second, lag, last error. Elsewhere it shows nothing. The channel is closed when it has ended.
func showTable(ctx context.Context, s streams, w api.Workers) <-chan struct{} {
	done := make(chan struct{})
	f, ok := s.err.(*os.File)
	if !ok || !term.IsTerminal(int(f.Fd())) || len(w.Status()) == 0 {
		close(done)
		return done
	}
	go func() {
		defer close(done)
		tick := time.NewTicker(time.Second)
		defer tick.Stop()
		lines := 0
		for {
			select {
			case <-ctx.Done():
				return
			case <-tick.C:
			}
			width, _, err := term.GetSize(int(f.Fd()))
			if err != nil {
				width = 100
			}
			text := renderTable(w.Status(), width)
			if lines > 0 {
				fmt.Fprintf(f, "\x1b[%dA\x1b[J", lines) // back up over the last table
			}
			fmt.Fprint(f, text)
			lines = strings.Count(text, "\n")
		}
	}()
	return done
}

func renderTable(rows []worker.Status, width int) string {
	var b strings.Builder
	line := func(format string, args ...any) {
		text := []rune(fmt.Sprintf(format, args...))
		b.WriteString(string(text[:min(len(text), max(20, width-1))]) + "\n")
	}
	line("%-20s %-10s %-11s %12s %12s  %s", "CONNECTOR", "TYPE", "STATE", "RECORDS/S", "LAG", "LAST ERROR")
	for _, r := range rows {
		lag := ""
		if r.Sink && r.Lag >= 0 {
			lag = fmt.Sprint(r.Lag)
		}
		line("%-20s %-10s %-11s %12.0f %12s  %s", r.Name, r.Type, r.State, r.Rate, lag, strings.ReplaceAll(r.Error, "\n", " "))
	}
	return b.String()
}
