package process

import (
	"bytes"
	"context"
	"encoding/json"
	"log/slog"
	"strings"
	"sync"
)

// maxLogLine cuts the lines of a plugin; lastWords is how many of them a report of its death tells.
const (
	maxLogLine = 8 << 10
	lastWords  = 5
)

// logLines hands what a plugin writes to the log, line by line. A line of slog's JSON keeps its level and its attributes.
type logLines struct {
	mu struct {
		sync.Mutex
		log  *slog.Logger
		line []byte
		last []string
	}
}

func newLogLines(log *slog.Logger) *logLines {
	l := &logLines{}
	l.mu.log = log
	return l
}

// use has the lines that follow go to another log.
func (l *logLines) use(log *slog.Logger) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.mu.log = log
}

func (l *logLines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	n := len(p)
	for len(p) > 0 {
		i := bytes.IndexByte(p, '\n')
		part := p
		if i >= 0 {
			part = p[:i]
		}
		if room := maxLogLine - len(l.mu.line); room > 0 {
			l.mu.line = append(l.mu.line, part[:min(len(part), room)]...)
		}
		if i < 0 {
			break
		}
		l.lineLocked()
		p = p[i+1:]
	}
	return n, nil
}

// words are the plugin's last ones.
func (l *logLines) words() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.lineLocked()
	return strings.Join(l.mu.last, "\n")
}

func (l *logLines) lineLocked() {
	line := strings.TrimRight(strings.ToValidUTF8(string(l.mu.line), "�"), "\r ")
	l.mu.line = l.mu.line[:0]
	if line == "" {
		return
	}
	if l.mu.last = append(l.mu.last, clip(line)); len(l.mu.last) > lastWords {
		l.mu.last = append(l.mu.last[:0], l.mu.last[1:]...)
	}
	var entry map[string]any
	if line[0] != '{' || json.Unmarshal([]byte(line), &entry) != nil {
		l.mu.log.Info(line)
		return
	}
	level, text := slog.LevelInfo, line
	if s, ok := entry["level"].(string); ok && level.UnmarshalText([]byte(s)) == nil {
		delete(entry, "level")
	}
	if s, ok := entry["msg"].(string); ok {
		text = s
		delete(entry, "msg")
		delete(entry, "time")
	} else {
		entry = nil
	}
	attrs := make([]any, 0, len(entry))
	for k, v := range entry {
		attrs = append(attrs, slog.Any(k, v))
	}
	l.mu.log.Log(context.Background(), level, text, attrs...)
}
