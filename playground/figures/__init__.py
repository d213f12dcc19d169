"""Results in, plotly figures out. Imports neither torch nor Streamlit."""
