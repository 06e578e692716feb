"""Lakes whose data files hold rows of many sends: partitioned by campaign, month or day."""
