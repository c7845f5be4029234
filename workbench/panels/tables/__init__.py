"""The panel of the warehouse: tables looked at, and a query with a chart."""
