package commitlog

// remove deletes a segment's files. The log file goes last: what is left without it is swept at the next start.
func (l *Log) remove(s *segment) error {
	defer l.keep(s)()
	s.drop()
	for _, suffix := range []string{indexSuffix, timeSuffix, txnSuffix, logSuffix} {
		if err := l.fs.Remove(segmentName(s.dir, s.base, suffix)); err != nil && !notExist(err) {
			return err
		}
	}
	return nil
}

// keep holds the files of segments open over their removal, which w is held for. Only the names go then. To give back the room of a large file, and what the page cache has of it,
// takes a file system some tens of milliseconds for a GiB, and it does so when the last one closes the file: the Syncer, with no lock held, once free is called. The end of the process
// closes it as well, and after a power cut the file system finds what has no name by itself. Beyond the bound of Files, or without a descriptor, the room goes with the name.
func (l *Log) keep(list ...*segment) (free func()) {
	var closes []func()
	for _, s := range list {
		if l.files.removed.Add(1) <= int64(l.files.limit) {
			if h, _, err := s.take(false, l.now()); err == nil {
				closes = append(closes, func() { h.release(); l.files.removed.Add(-1) })
				continue
			}
		}
		l.files.removed.Add(-1)
	}
	return func() { l.syncer.after(closes) }
}

// after has what takes long, and what nobody waits for, done one by one on a goroutine, which exists only while there is some.
func (s *Syncer) after(work []func()) {
	if s.stepped {
		for _, fn := range work {
			fn()
		}
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.late = append(s.late, work...)
	if len(s.late) > 0 && !s.tidying {
		s.tidying = true
		go s.tidy()
	}
}

func (s *Syncer) tidy() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for len(s.late) > 0 {
		fn := s.late[0]
		s.late[0] = nil
		s.late = s.late[1:]
		s.mu.Unlock()
		fn()
		s.mu.Lock()
	}
	s.late, s.tidying = nil, false
	s.idle.Broadcast()
}
