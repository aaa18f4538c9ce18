"""The stages of a job of several tables; each has the name of the stage of one table that it stands for."""
