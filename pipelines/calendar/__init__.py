"""When a schedule is due: cron in a time zone, as Debian's cron has it when clocks are changed."""

from pipelines.calendar.due import CatchUp, Due, due
from pipelines.calendar.instants import first_touched, instants, next_instants
from pipelines.calendar.schedule import Ambiguous, Schedule, zone_of

__all__ = ["Ambiguous", "CatchUp", "Due", "Schedule", "due", "first_touched", "instants", "next_instants", "zone_of"]
