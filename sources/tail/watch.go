package tail

import (
	"log/slog"

	"github.com/fsnotify/fsnotify"
)

// watcher turns the system's events into hints that something changed. It may
// miss any of them, or not work at all: polling finds everything.
type watcher struct {
	w    *fsnotify.Watcher
	wake chan struct{} // holds one hint
	done chan struct{}
	dirs map[string]bool
	full bool
}

// maxWatches bounds the folders that are watched; inotify's limit is shared by all of a user's programs.
const maxWatches = 256

func newWatcher(log *slog.Logger) *watcher {
	h := &watcher{wake: make(chan struct{}, 1), done: make(chan struct{}), dirs: map[string]bool{}}
	w, err := fsnotify.NewWatcher()
	if err != nil {
		log.Debug("no file events; polling alone", "error", err)
		close(h.done)
		return h
	}
	h.w = w
	go func() {
		defer close(h.done)
		for {
			select {
			case _, ok := <-w.Events:
				if !ok {
					return
				}
			case _, ok := <-w.Errors: // an overflow is a hint like any other
				if !ok {
					return
				}
			}
			select {
			case h.wake <- struct{}{}:
			default:
			}
		}
	}()
	return h
}

// watch asks for events of a folder's files.
func (h *watcher) watch(dir string) {
	if h.w == nil || h.dirs[dir] || h.full {
		return
	}
	if len(h.dirs) >= maxWatches || h.w.Add(dir) != nil {
		h.full = len(h.dirs) >= maxWatches
		return
	}
	h.dirs[dir] = true
}

// close ends the goroutine and waits for it.
func (h *watcher) close() {
	if h.w != nil {
		_ = h.w.Close() // nothing is lost with it
	}
	<-h.done
}
