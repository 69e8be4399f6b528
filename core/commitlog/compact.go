package commitlog

import "time"

func (l *Log) finishSwaps([]int64) error { return nil }

func (l *Log) compact(hw int64, cfg *Config, now time.Time) error { return nil }
