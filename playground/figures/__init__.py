"""Plotly figures made from results. Imports neither torch nor Streamlit."""
