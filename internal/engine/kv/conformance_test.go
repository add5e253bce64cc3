package kv

import (
	"testing"

	"github.com/quorate/quorate/internal/engine/enginetest"
)

func TestConformanceV1(t *testing.T) { enginetest.Run(t, V1) }

func TestConformanceV2(t *testing.T) { enginetest.Run(t, V2) }
