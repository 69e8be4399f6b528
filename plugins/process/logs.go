package process

import (
	"bytes"
	"context"
	"encoding/json"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/forebayhub/forebay/connectors/spec"
)

// maxLogLine cuts the lines of a plugin, logRate is how many of them are logged in a second, and lastWords how many a report of its death tells.
const (
	maxLogLine = 8 << 10
	logRate    = 200
	lastWords  = 5
)

// minSecret is how long a secret has to be to be hidden: a shorter one would make nonsense of every text.
const minSecret = 4

// logLines hands what a plugin writes to the log, line by line. A line of slog's JSON keeps its level and its attributes.
type logLines struct {
	now func() time.Time
	mu  struct {
		sync.Mutex
		log  *slog.Logger
		line []byte
		last []string

		second  int64 // Unix time
		logged  int   // lines in it
		left    int   // lines that were not logged
		secrets []string
		stars   *strings.Replacer // nil: none
	}
}

func newLogLines(log *slog.Logger) *logLines {
	l := &logLines{now: time.Now}
	l.mu.log = log
	return l
}

// use has the lines that follow go to another log.
func (l *logLines) use(log *slog.Logger) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.mu.log = log
}

// hide puts stars in the place of a secret from now on, as it is and as JSON has it.
func (l *logLines) hide(secret string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(secret) < minSecret || slices.Contains(l.mu.secrets, secret) {
		return
	}
	l.mu.secrets = append(l.mu.secrets, secret)
	for _, html := range []bool{false, true} {
		var quoted bytes.Buffer
		e := json.NewEncoder(&quoted)
		e.SetEscapeHTML(html)
		_ = e.Encode(secret) // a string has no error
		l.mu.secrets = append(l.mu.secrets, quoted.String()[1:quoted.Len()-2])
	}
	slices.SortFunc(l.mu.secrets, func(a, b string) int { return len(b) - len(a) }) // one may be within another
	var pairs []string
	for _, s := range l.mu.secrets {
		pairs = append(pairs, s, spec.SecretText("").String())
	}
	l.mu.stars = strings.NewReplacer(pairs...)
}

// clean is a text without secrets.
func (l *logLines) clean(text string) string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.cleanLocked(text)
}

func (l *logLines) cleanLocked(text string) string {
	if l.mu.stars == nil {
		return text
	}
	return l.mu.stars.Replace(text)
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
	line := strings.TrimRight(strings.ToValidUTF8(l.cleanLocked(string(l.mu.line)), "�"), "\r ")
	l.mu.line = l.mu.line[:0]
	if line == "" {
		return
	}
	if l.mu.last = append(l.mu.last, clip(line)); len(l.mu.last) > lastWords {
		l.mu.last = append(l.mu.last[:0], l.mu.last[1:]...)
	}
	if at := l.now().Unix(); at != l.mu.second {
		if l.mu.left > 0 {
			l.mu.log.Warn("the plugin logs too much", "lines left out", l.mu.left)
		}
		l.mu.second, l.mu.logged, l.mu.left = at, 0, 0
	}
	if l.mu.logged++; l.mu.logged > logRate {
		l.mu.left++
		return
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
