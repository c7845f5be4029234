"""What protects each hop and each store of a workbench, proved by connecting and reading, not by believing a setting."""

from workbench.security.assurance.rows import Kind, Lack, NotProtected, Row, State, examine, not_in_use
from workbench.security.assurance.site import Site

__all__ = ["Kind", "Lack", "NotProtected", "Row", "Site", "State", "examine", "not_in_use"]
